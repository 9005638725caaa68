"""The verb `tokenize_images` as a script, for ray job submit: python pipelines/tokenize_images.py key=value ..."""

from seit_ray.verbs.command.main import run_verb

if __name__ == "__main__":
    run_verb("tokenize_images")

"""The verb `fit_tokenizer` as a script, for ray job submit: python pipelines/fit_tokenizer.py key=value ..."""

from seit_ray.verbs.command.main import run_verb

if __name__ == "__main__":
    run_verb("fit_tokenizer")

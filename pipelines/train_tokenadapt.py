"""The verb `train_tokenadapt` as a script, for ray job submit: python pipelines/train_tokenadapt.py key=value ..."""

from seit_ray.verbs.command.main import run_verb

if __name__ == "__main__":
    run_verb("train_tokenadapt")

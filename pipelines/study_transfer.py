"""The verb `study_transfer` as a script, for ray job submit: python pipelines/study_transfer.py key=value"""

from seit_ray.verbs.command.main import run_verb

if __name__ == "__main__":
    run_verb("study_transfer")

"""The verb `study_continual` as a script, for ray job submit: python pipelines/study_continual.py key=value ..."""

from seit_ray.verbs.command.main import run_verb

if __name__ == "__main__":
    run_verb("study_continual")

"""The verb `inspect_tokens` as a script, for ray job submit: python pipelines/inspect_tokens.py key=value ..."""

from seit_ray.verbs.command.main import run_verb

if __name__ == "__main__":
    run_verb("inspect_tokens")

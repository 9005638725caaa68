"""python -m seit_ray VERB ...: the same as seit-ray."""

from seit_ray.verbs.command.main import main

if __name__ == "__main__":
    main()

"""`python -m cllm`."""

from cllm.cli import main

if __name__ == "__main__":  # processes started by multiprocessing import this file as well
    main()

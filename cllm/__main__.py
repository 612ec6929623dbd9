"""`python -m cllm`."""

from cllm.cli import main

main()

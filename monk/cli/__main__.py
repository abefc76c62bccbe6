"""`python -m monk.cli` is `monk`, also where the script is not on the path."""

from monk.cli import main

main()

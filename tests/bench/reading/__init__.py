"""What is read of a folder, and what is lost: `python -m tests.bench.reading --corpus FOLDER`."""

"""How well the library finds: judged questions, run through the tables, vectors and model that the daemon uses."""

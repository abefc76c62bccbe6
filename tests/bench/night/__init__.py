"""A whole night over a folder of documents, with questions whose answers are known, and every citation checked again."""

"""The page: static files, no data in them. `page.js` reads the same HTTP routes as everybody else."""

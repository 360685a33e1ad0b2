"""Two audits side by side: `comparison` compares, `records` are what it finds, `text` shows them in a terminal."""

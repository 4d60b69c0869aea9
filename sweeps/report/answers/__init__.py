"""What the rows of a sweep answer: tables, the best depth of every area, and the choice nested in outer folds."""

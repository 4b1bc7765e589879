"""From scores to what a person looks at."""

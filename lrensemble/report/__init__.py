"""What a person looks at: curves, plots and pages, made from the numbers of the rooms below."""

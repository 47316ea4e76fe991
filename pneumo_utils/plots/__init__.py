"""Every plot of the book, drawn in one hand."""

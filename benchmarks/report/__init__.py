"""The report: everything recorded in one HTML file that people look at."""

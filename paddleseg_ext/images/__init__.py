"""Images, labels and class tables, with NumPy and OpenCV only."""

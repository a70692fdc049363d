"""Images, labels, class tables, samples and video frames, with NumPy, OpenCV and Pillow only."""

"""A bundle in the browser: a static folder that segments images where it is opened."""

"""From a function's folder and a template to a bundle: content-addressed layers that run as folders or pack into an image."""

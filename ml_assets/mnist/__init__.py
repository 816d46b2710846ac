"""Handwritten digits (MNIST), recognised by a convolutional network, retrained weekly."""

"""Small colour images (CIFAR-10), recognised by a fast convolutional network, retrained weekly."""

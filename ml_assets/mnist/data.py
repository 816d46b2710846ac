"""The MNIST file. Where it comes from is the injected source's business.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", in the layout in
which Keras distributes it.
"""

FILE_NAME = "mnist.npz"
URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
SAMPLE_SHA256 = "219461763ee42d8e7c8cca6f5694eb15a490fea3ab6d020b676b845389ce7105"

CLASSES = [str(digit) for digit in range(10)]
IMAGE_SHAPE = (28, 28)

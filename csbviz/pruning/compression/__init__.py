"""Deep Compression: pruning, shared values by k-means, and Huffman codes, in real files of real bytes.

References
----------
Han, Mao and Dally, Deep Compression, ICLR 2016, arXiv:1510.00149.
"""

from csbviz.pruning.compression.codec import SUFFIX, Encoded, encode, save
from csbviz.pruning.compression.kmeans import CodeBook, code_book
from csbviz.pruning.compression.quantise import quantise
from csbviz.pruning.compression.stages import compress_stages

__all__ = [
    "SUFFIX",
    "CodeBook",
    "Encoded",
    "code_book",
    "compress_stages",
    "encode",
    "quantise",
    "save",
]

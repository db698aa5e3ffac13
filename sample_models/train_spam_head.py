"""Train the linear head that tells spam by the embeddings of the dense MiniLM-L6.

    python -m sample_models.train_spam_head          # a minute on two cores

Logistic regression on the training mails of `spam_mails.npz`; the strength of its decay is chosen by
five-fold cross-validation among them. The test mails are looked at once, at the end.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from csbviz.models import load_sample
from csbviz.tasks import bert, spam

HERE = Path(__file__).resolve().parent
DECAYS = (1e-2, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)


def embeddings(encoder, tokens):
    """Embed mails: token ids, uint16 (mails, length) → float64 (mails, 384)."""
    import torch

    found = np.empty((len(tokens), bert.WIDTH))
    with torch.inference_mode():
        for pick in spam._by_length(tokens, 25):
            found[pick] = encoder(spam._cut(tokens[pick])).numpy()
    return found


def fitted(points, labels, decay):
    """Fit a logistic regression: weight, float64 (384,), and bias.

    Its loss is convex, so that start and order play no part.
    """
    signs = 2.0 * labels - 1

    def loss_and_gradient(parameters):
        weight, bias = parameters[:-1], parameters[-1]
        margins = signs * (points @ weight + bias)
        slopes = -signs * np.exp(-np.logaddexp(0, margins)) / len(labels)
        value = np.logaddexp(0, -margins).mean() + decay * weight @ weight
        return value, np.append(points.T @ slopes + 2 * decay * weight, slopes.sum())

    found = minimize(loss_and_gradient, np.zeros(points.shape[1] + 1), jac=True, method="L-BFGS-B", tol=1e-10)
    return found.x[:-1], found.x[-1]


def accuracy(points, labels, weight, bias):
    """Share of mails that a head tells rightly."""
    return float(((points @ weight + bias > 0) == labels).mean())


def cross_validated(points, labels, decay, folds=5):
    """Mean accuracy of the mails left out, one fold after the other."""
    fold, scores = np.arange(len(labels)) % folds, []
    for out in range(folds):
        seen, left = fold != out, fold == out
        scores.append(accuracy(points[left], labels[left], *fitted(points[seen], labels[seen], decay)))
    return float(np.mean(scores))


def main():
    """Embed the mails, choose the decay, fit, save, and measure once on the test mails."""
    parser = argparse.ArgumentParser(description="Train the spam head on MiniLM-L6.")
    parser.add_argument("--out", type=Path, default=HERE / "spam_head.npz")
    args = parser.parse_args()
    model = load_sample("minilm_l6")
    encoder, _, _ = bert.build({layer.name: layer.weight() for layer in model.layers})
    tokens, labels = spam.load_mails("train")
    points = embeddings(encoder, tokens)
    scores = {decay: cross_validated(points, labels, decay) for decay in DECAYS}
    for decay, score in scores.items():
        print(f"decay {decay:g}: {score:.1%} of the training mails left out")
    weight, bias = fitted(points, labels, max(scores, key=scores.get))
    np.savez_compressed(
        args.out,
        weight=np.stack([-weight / 2, weight / 2]).astype(np.float32),
        bias=np.array([-bias / 2, bias / 2], np.float32),
    )
    tokens, labels = spam.load_mails("test")
    print(f"test accuracy {accuracy(embeddings(encoder, tokens), labels, weight, bias):.1%}")


if __name__ == "__main__":
    main()

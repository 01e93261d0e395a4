"""Sentences whose meaning lies in the order of their words."""

import types

import numpy as np

from experiments.datasets.dataset import TextData, TextSplit

_CLASSES = ("praise", "blame")
# Both sentences of a pair are made of the same words: 我不喜欢 and 喜欢我不.
_SUBJECTS = ("我", "你", "他", "她", "我们", "大家")
_VERBS = ("喜欢", "爱看", "推荐", "想买")
_OBJECTS = ("这本书", "这部电影", "这家店", "这首歌", "这道菜")
_SIZES = {"train": 2000, "valid": 500, "test": 1000}
_SEED = 20240607


def make_word_order() -> TextData:
    """Makes pairs of sentences with the same words in another order.

    "S V O , 不 ." against "S 不 V O , .": where 不 stands before the verb it turns the
    praise into blame; at the end it asks a question, and the praise stays. Every
    sentence holds every word of its pair, so that a bag of words can only guess.
    The words are parted by blanks.

    Returns:
      Splits of 2000, 500 and 1000 sentences with no sentence in two of them, made by a
      generator that NumPy has frozen.
    """
    generator = np.random.RandomState(_SEED)
    fillers = np.array([f"w{i}" for i in range(30)])
    splits, seen = {}, set()
    for split, size in _SIZES.items():
        texts: list[str] = []
        while len(texts) < size:
            parts = [generator.choice(p) for p in (_SUBJECTS, _VERBS, _OBJECTS)]
            tail = generator.choice(fillers, 4, replace=False).tolist()
            subject, verb, thing = (str(part) for part in parts)
            key = (subject, verb, thing, *sorted(tail))
            if key in seen:
                continue
            seen.add(key)
            texts.append(" ".join([subject, verb, thing, *tail, "不"]))
            texts.append(" ".join([subject, "不", verb, thing, *tail]))
        labels = np.arange(size, dtype=np.int32) % 2
        splits[split] = TextSplit(texts, labels)
    return TextData("word_order", _CLASSES, types.MappingProxyType(splits))

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.trainer.data.vocabulary import END, PAD, SPECIALS, START, UNKNOWN, Vocabulary, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Dog's ball, 2 cats .", ["a", "dog", "s", "ball", "2", "cats"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("一只狗 runs", ["一", "只", "狗", "runs"]),
        ("東京タワーに", ["東", "京", "タ", "ワ", "ー", "に"]),
        ("كلبٌ يجري", ["كلبٌ", "يجري"]),
        ("कुत्ता दौड़", ["कुत्ता", "दौड\u093c"]),
        ("de\u00adpart क\u094d\u200dष", ["depart", "क\u094dष"]),
        ("개가 달린다", ["개가", "달린다"]),
        ("dog🐕🏃runs!", ["dog", "🐕", "🏃", "runs"]),
        ("ﬁre \uff57\uff49\uff44\uff45", ["fire", "wide"]),
        (" .,!? ", []),
        ("\u0301 a", ["a"]),
    ],
)
def test_text_of_any_language_is_split_into_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_thai_marks_stay_on_their_letters() -> None:
    assert words("หมาวิ่ง") == ["ห", "ม", "า", "วิ่", "ง"]


def test_the_most_frequent_words_come_first_and_ties_are_alphabetical() -> None:
    vocabulary = Vocabulary.build(["b a", "b c", "d"])
    assert vocabulary.words == ("b", "a", "c", "d")
    assert len(vocabulary) == len(SPECIALS) + 4
    assert Vocabulary.build(["b a", "b c", "d"], max_size=len(SPECIALS) + 2).words == ("b", "a")


def test_a_text_becomes_ids_and_ids_become_its_words() -> None:
    vocabulary = Vocabulary.build(["a dog runs"])
    ids = vocabulary.encode("A cat runs!")
    assert ids[0] == START
    assert ids[-1] == END
    assert ids[2] == UNKNOWN
    assert vocabulary.decode([*ids, PAD, PAD]) == "a <unknown> runs"


def test_padding_is_zero_as_embeddings_expect() -> None:
    assert (PAD, SPECIALS[PAD], SPECIALS[START]) == (0, "<pad>", "<start>")


def test_a_vocabulary_survives_being_saved() -> None:
    vocabulary = Vocabulary.build(["一只狗", "a dog", "🐕"])
    restored = Vocabulary.restore(list(vocabulary.words))
    assert restored == vocabulary
    assert restored.encode("狗 dog") == vocabulary.encode("狗 dog")


@pytest.mark.parametrize("saved", [None, "words", ["a", 1], ["a", "a"], [""], ["<pad>"], {"a": 1}])
def test_what_is_no_vocabulary_is_refused(saved: object) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        Vocabulary.restore(saved)


def test_ids_from_another_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="not below 5"):
        Vocabulary.build(["dog"]).decode([99])


def test_a_vocabulary_has_room_for_a_word() -> None:
    with pytest.raises(ValueError, match="max_size"):
        Vocabulary.build(["dog"], max_size=len(SPECIALS))


@given(st.lists(st.text(max_size=40), max_size=8))
def test_what_a_vocabulary_was_built_from_it_knows(captions: list[str]) -> None:
    vocabulary = Vocabulary.build(captions)
    for caption in captions:
        ids = vocabulary.encode(caption)
        assert UNKNOWN not in ids
        assert all(0 <= number < len(vocabulary) for number in ids)
        assert vocabulary.decode(ids) == " ".join(words(caption))


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_ascii_text_takes_a_short_cut_to_the_same_words(text: str) -> None:
    """A letter that is not ASCII, set apart at the end, sends the same text the long way."""
    assert words(text) == words(f"{text} é")[:-1]


@given(st.text(max_size=60))
def test_words_hold_no_spaces_or_punctuation_and_split_no_further(text: str) -> None:
    for word in words(text):
        assert word
        assert not any(character.isspace() for character in word)
        assert word not in SPECIALS

from trainer.reporting import caption_table


def test_captions_stand_beside_the_numbers_of_their_pictures() -> None:
    assert caption_table(("a dog", "two cats")).split("\n") == [
        "| image | caption |",
        "| ---: | :--- |",
        "| 1 | a dog |",
        "| 2 | two cats |",
    ]


def test_what_would_end_a_cell_or_a_row_is_escaped() -> None:
    rows = caption_table(("a | b\nc\\",)).split("\n")
    assert rows[2:] == [r"| 1 | a \| b c\\ |"]

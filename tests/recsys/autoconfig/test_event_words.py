"""Meanings of event types and of names of labels."""

import pytest

from recsys.autoconfig.event_words import is_type_name, label_meaning, meaning, says_what_was_done


@pytest.mark.parametrize(
    ("wanted", "values"),
    [
        (
            "positive",
            "view click cart purchase like addtocart add_to_cart AddToWishlist pageview-view buy "
            "transaction thumbs_up favorite favourite watch complete save share pv fav checkout",
        ),
        (
            "negative",
            "dislike skip remove_from_cart unlike hide impression refund return unsubscribe "
            "unfollow thumbs_down ThumbsDown downvote not_interested no_click nonclick non-click "
            "notClicked SKIPPED order_cancelled un-like delete impressions cart_abandoned",
        ),
        (None, "aufgerufen gekauft 購入 3 north notify scroll unit norm dog"),
    ],
)
def test_types_of_events(wanted: str | None, values: str) -> None:
    for value in values.split():
        assert meaning(value) == wanted, value
    assert meaning("thumbs down") == "negative"
    assert meaning("") is None


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (
            "positive",
            "clicked click is_click label target y isPurchase purchased converted liked was_bought "
            "long_view feedback interaction_label user_feedback is_favorite added_to_cart",
        ),
        ("negative", "skipped is_skip dislike is_hidden returned not_interested unsubscribed"),
        (
            None,
            "is_mobile premium click_position target_os read_time_zone device response_time "
            "play_count weekday view_mode item_id is_open on_sale is_paid subscribed order shown "
            "is_displayed",
        ),
    ],
)
def test_names_of_labels(wanted: str | None, names: str) -> None:
    for name in names.split():
        assert label_meaning(name) == wanted, name


def test_names_of_types() -> None:
    for name in (
        "event_type",
        "event",
        "type",
        "action",
        "behavior",
        "behaviour_type",
        "eventName",
    ):
        assert is_type_name(name), name
    for name in ("device_type", "product_type", "name", "clicked"):
        assert not is_type_name(name), name


def test_only_sure_words_count_under_any_name() -> None:
    def says(*values: str) -> bool:
        return says_what_was_done({value: meaning(value) for value in values})

    assert says("like", "dislike")
    assert says("play", "skip", "anhören")
    assert not says("display", "video")
    assert not says("up", "down")
    assert not says("click", "purchase")
    assert not says("like", "dislike", "a", "b", "c")

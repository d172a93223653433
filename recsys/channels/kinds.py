"""The channels: a new one is a class in a file of its own, and a line here."""

from recsys.channels.channel import Channel
from recsys.channels.co_occurrence import CoOccurrence
from recsys.channels.content import Content, OwnContent
from recsys.channels.linear import Linear
from recsys.channels.links import Links
from recsys.channels.transitions import Transitions

CHANNELS: dict[str, type[Channel]] = {
    channel.name: channel
    for channel in (CoOccurrence, Transitions, Content, OwnContent, Links, Linear)
}

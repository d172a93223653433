"""Head and body of an answer leave in one write, and nothing is held for long."""

from pipelines.http.joined import JoinedWrites


class Loop:
    """A loop that keeps what is to be called in its next turn."""

    def __init__(self):
        self.soon = []

    def call_soon(self, call):
        self.soon.append(call)

    def turn(self):
        calls, self.soon = self.soon, []
        for call in calls:
            call()


class Transport:
    """A transport that notes each write."""

    def __init__(self):
        self.written = []
        self.is_closed = False

    def write(self, data):
        self.written.append(data)

    def writelines(self, parts):
        self.written.append(b"".join(parts))

    def close(self):
        self.is_closed = True

    def is_closing(self):
        return self.is_closed


def test_a_head_leaves_with_its_body():
    loop, transport = Loop(), Transport()
    joined = JoinedWrites(transport, loop)
    joined.write(b"head ")
    assert not transport.written
    joined.write(b"body")
    loop.turn()
    assert transport.written == [b"head body"]


def test_a_head_without_a_body_leaves_in_the_next_turn_or_before_the_end():
    loop, transport = Loop(), Transport()
    joined = JoinedWrites(transport, loop)
    joined.write(b"head")
    loop.turn()
    assert transport.written == [b"head"]
    joined.write(b"other")
    joined.write(b"")
    joined.write(b"last")
    joined.close()
    loop.turn()
    assert transport.written == [b"head", b"other", b"last"]
    assert joined.is_closing()


def test_nothing_is_written_where_the_client_has_gone():
    loop, transport = Loop(), Transport()
    joined = JoinedWrites(transport, loop)
    joined.write(b"head")
    transport.close()
    loop.turn()
    assert not transport.written

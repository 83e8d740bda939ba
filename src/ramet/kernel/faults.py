"""The errors that a plain call may raise in a node; all others are in ``errors``, which has these, too."""


class Error(Exception):
    """What all errors of ramet have in common. Never raised itself."""


class CallCancelled(Error):
    """The call was cancelled before it gave a result.

    Attributes:
        stuck: why the work goes on although it was ended, as the node says after a second or so; "" if it doesn't.
    """

    stuck = ""


class ValueNotPortableError(Error, TypeError):
    """A value can't travel. The text names the path to the culprit, such as ``result['a'][3]``."""


class ProtocolError(Error):
    """What came over a link isn't of ramet's protocol, or is forbidden by it. The link isn't used any longer."""

"""Reads messages as lines of "version hex", lets os-ken decode each and, where it can, encode it again.

Answers each line with "decoded", "encoded HEX", "unknown" for what os-ken has no class for, or "error WHY".
"""
import sys

from os_ken.ofproto import ofproto_parser, ofproto_protocol
from os_ken.ofproto import ofproto_v1_0, ofproto_v1_2, ofproto_v1_3, ofproto_v1_4, ofproto_v1_5


class Datapath(ofproto_protocol.ProtocolDesc):
    pass


def answer(version, raw):
    datapath = ofproto_protocol.ProtocolDesc(version=version)
    (version, kind, length, xid) = ofproto_parser.header(raw)
    # Not by ofproto_parser.msg, which logs what goes wrong and answers nothing.
    msg = ofproto_parser._MSG_PARSERS[version](datapath, version, kind, length, xid, raw)
    if msg is None:
        return "unknown"
    try:
        msg.serialize()
        # What only a switch sends often has a class without a body to encode.
        if len(msg.buf) > 8 or len(raw) <= 8:
            return "encoded " + bytes(msg.buf).hex()
        return "decoded"
    except Exception:
        # Much of what a switch sends it can only decode.
        return "decoded"


for line in sys.stdin:
    version, raw = line.split()
    try:
        print(answer(int(version), bytearray.fromhex(raw)), flush=True)
    except Exception as e:
        print("error", repr(e)[:300], flush=True)

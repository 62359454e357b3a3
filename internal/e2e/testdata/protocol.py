"""A client of the Sutra storage protocol that shares no code with the grid: sockets, and MessagePack by python3-msgpack.

    protocol.py HOST:PORT

Sends every request in map form and in array form, the exact frames of the protocol page, and frames that are broken, and compares
what comes back. Prints one line per failure; the exit status is 1 if there was one. It expects an empty store of 768 dimensions.
"""
import math
import socket
import struct
import sys
import time

import msgpack

failures = []


def check(what, got, want):
    if got != want:
        failures.append(f"{what}: got {got!r}, want {want!r}")


class Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, frame):
        self.socket.sendall(frame)

    def receive(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError("the connection was closed")
            data += part
        return data

    def frame(self):
        """The payload of the next frame."""
        return self.receive(struct.unpack(">I", self.receive(4))[0])

    def raw(self, payload):
        self.send(struct.pack(">I", len(payload)) + payload)
        return self.frame()

    def ask(self, request):
        return msgpack.unpackb(self.raw(msgpack.packb(request)), raw=False)


def is_error(reply):
    return isinstance(reply, dict) and list(reply) == ["Error"] and isinstance(reply["Error"].get("message"), str) and reply["Error"]["message"]


def golden(c):
    """The exact bytes of the protocol page."""
    request = b"\x00\x00\x00\x1d\x81\xacQueryConcept\x81\xaaconcept_id\xa2aa"
    check("the page's QueryConcept", struct.pack(">I", 0x1D) + msgpack.packb({"QueryConcept": {"concept_id": "aa"}}), request)
    c.send(request)
    empty = {"found": False, "concept_id": "aa", "content": "", "strength": 0.0, "confidence": 0.0, "metadata": None}
    check("a concept that is not there", msgpack.unpackb(c.frame()), {"QueryConceptOk": empty})
    c.send(b"\x00\x00\x00\x09\xa8GetStats")
    check("GetStats, its keys", sorted(msgpack.unpackb(c.frame())["StatsOk"]), sorted(
        ["concepts", "edges", "vectors", "written", "dropped", "pending", "reconciliations", "uptime_seconds", "total_concepts", "total_edges", "writes", "drops"]))
    reply = c.raw(msgpack.packb({"LearnConcept": ["golden", "text", [], 1.0, 1.0]}))
    sequence = msgpack.unpackb(reply)["LearnConceptOk"][0]
    check("LearnConceptOk", reply, b"\x81\xaeLearnConceptOk\x91" + msgpack.packb(sequence))
    check("FlushOk", c.raw(b"\xa5Flush"), b"\xa7FlushOk")
    reply = c.raw(b"\xabHealthCheck")
    check("HealthCheckOk", reply[:16], b"\x81\xadHealthCheckOk\x83")


FILTER = ["semantic_type", "domain_context", "temporal_after", "temporal_before", "has_causal_relation", "min_confidence", "required_terms"]
OPTIONS = ["generate_embedding", "embedding_model", "extract_associations", "min_association_confidence", "max_associations_per_concept", "strength", "confidence"]


def named(names, values):
    return dict(zip(names, values))


def concept(name, content, certainty=1.0, attributes=None):
    return ["LearnConcept", ["concept_id", "content", "embedding", "strength", "confidence", "metadata"],
            [name, content, [0.5] + [0] * 767, 1, certainty, [attributes or {}, ["a tag"]]], "LearnConceptOk", lambda r: len(r) == 1 and r[0] > 0]


def association(source, target, kind, certainty):
    return ["LearnAssociation", ["source_id", "target_id", "assoc_type", "confidence"], [source, target, kind, certainty],
            "LearnAssociationOk", lambda r: len(r) == 1 and r[0] > 0]


def path(types, *ids, confidence=0.5):
    return {"concepts": list(ids), "confidence": confidence, "type_distribution": types, "domains": ["medical"], "is_temporally_ordered": True}


def requests():
    """Variant, field names, values, the reply's variant, and what its fields must be: a value, or a function that says whether they are right."""
    no_filter = [None] * 4 + [False, 0, []]
    options = [True, None, True, 0.5, 10, 1, 0.75]
    now = int(time.time())
    chain = [path({"causal": 1, "entity": 1}, "smoke", "illness")]
    yield concept("smoke", "Smoking causes cancer", 0.5, {"k": "v"})
    yield concept("illness", "the illness")
    yield concept("safe", "The drug is safe")
    yield concept("unsafe", "The drug is not safe")
    yield association("smoke", "illness", 1, 0.5)
    yield association("illness", "safe", 0, 1)
    yield ["QueryConcept", ["concept_id"], ["smoke"], "QueryConceptOk", {"found": True, "concept_id": "smoke", "content": "Smoking causes cancer", "strength": 1.0,
           "confidence": 0.5, "metadata": {"attributes": {"k": "v"}, "tags": ["a tag"]}}]
    yield ["GetNeighbors", ["concept_id"], ["smoke"], "GetNeighborsOk", {"neighbor_ids": ["illness"]}]
    yield ["FindPath", ["start_id", "end_id", "max_depth"], ["smoke", "safe", 20], "FindPathOk", {"found": True, "path": ["smoke", "illness", "safe"]}]
    yield ["FindPath", ["start_id", "end_id", "max_depth"], ["smoke", "nowhere", 20], "FindPathOk", {"found": False, "path": []}]
    yield ["VectorSearch", ["query_vector", "k", "ef_search"], [[1] + [0] * 767, 10, 64], "VectorSearchOk",
           lambda r: {i for i, _ in r["results"]} == {"smoke", "illness", "safe", "unsafe"} and all(abs(score - 1) < 0.01 for _, score in r["results"])]
    yield ["GetAssociation", ["source_id", "target_id"], ["smoke", "illness"], "GetAssociationOk",
           {"found": True, "source_id": "smoke", "target_id": "illness", "assoc_type": 1, "confidence": 0.5}]
    yield ["FindPathSemantic", ["start_id", "end_id", "filter", "max_depth", "max_paths"], ["smoke", "illness", no_filter, 5, 10], "FindPathSemanticOk", {"paths": chain}]
    yield ["FindTemporalChain", ["domain", "start_time", "end_time"], ["medical", now - 3600, now + 3600], "FindTemporalChainOk",
           {"paths": [path({"causal": 1, "entity": 2}, "smoke", "illness", "safe")]}]
    yield ["FindTemporalChain", ["start_id", "end_id", "max_depth", "after", "before"], ["smoke", "illness", 5, "2001-01-01", None], "FindTemporalChainOk", {"paths": chain}]
    yield ["FindCausalChain", ["start_id", "causal_type", "max_depth"], ["smoke", "direct", 5], "FindCausalChainOk", {"paths": chain}]
    against = {"contradictions": [["safe", "unsafe", "one denies what the other states"]]}
    yield ["FindContradictions", ["domain"], ["medical"], "FindContradictionsOk", against]
    yield ["FindContradictions", ["concept_id", "max_depth"], ["safe", 1], "FindContradictionsOk", {"contradictions": []}]
    yield ["QueryBySemantic", ["filter", "limit"], [["causal", "medical", 0, now + 3600, True, 0.25, ["SMOKING"]], 5], "QueryBySemanticOk",
           {"concepts": [{"concept_id": "smoke", "content": "Smoking causes cancer", "semantic_type": "causal", "domain": "medical", "confidence": 0.5}]}]
    yield ["LearnConceptV2", ["content", "options"], ["the smoke of the fire", options], "LearnConceptV2Ok", lambda r: len(r["concept_id"]) == 32]
    yield ["LearnBatch", ["contents", "options"], [["fire one", "fire two"], options], "LearnBatchOk", lambda r: [len(i) for i in r["concept_ids"]] == [32, 32]]
    yield ["GetAllConceptIds", [], [], "GetAllConceptIdsOk", lambda r: r["concept_ids"] == sorted(r["concept_ids"]) and len(r["concept_ids"]) == 8]
    yield ["GetStats", [], [], "StatsOk", lambda r: r["concepts"] == 8 == r["total_concepts"] and r["vectors"] == 7 and r["edges"] == r["total_edges"] >= 2]
    yield ["HealthCheck", [], [], "HealthCheckOk", lambda r: r["healthy"] is True and r["status"] == "ok"]


def forms(names, values):
    """A request's fields as clients send them."""
    nested = {"filter": FILTER, "options": OPTIONS, "metadata": ["attributes", "tags"]}
    inside = [named(nested[n], v) if n in nested and v is not None else v for n, v in zip(names, values)]
    by_name = named(names, inside)
    yield "by name", by_name
    yield "with more fields", dict(by_name, of_a_newer_client={"x": [1, 2]})
    yield "without what is nil", {n: v for n, v in by_name.items() if v is not None}
    yield "by position", values
    yield "by position, nested by name", inside
    yield "in doubles", [float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values]
    if not names:
        yield "nil", None


def every_request(c):
    for variant, names, values, reply_variant, want in requests():
        for form, fields in forms(names, values):
            reply = c.ask({variant: fields})
            what = f"{variant} {form}"
            if not isinstance(reply, dict) or list(reply) != [reply_variant]:
                failures.append(f"{what}: got {reply!r}")
            elif callable(want):
                if not want(reply[reply_variant]):
                    failures.append(f"{what}: got {reply!r}")
            else:
                check(what, reply[reply_variant], want)
        if not names:
            check(f"{variant} as a string", list(c.ask(variant)), [reply_variant])


def refused(c):
    """What breaks a limit gets an Error, the connection lives, and nothing is stored."""
    before = c.ask("GetStats")["StatsOk"]["written"]
    good = named(["concept_id", "content", "embedding", "strength", "confidence"], ["bad", "text", [], 1, 1])
    learn = {
        "NaN": {"strength": math.nan}, "infinity": {"confidence": math.inf}, "NaN in a vector": {"embedding": [math.nan] * 768},
        "2,049 dimensions": {"embedding": [1.0] * 2049}, "another dimension": {"embedding": [1.0] * 5}, "10 MiB + 1": {"content": "x" * (10 * 2**20 + 1)},
        "513 bytes of id": {"concept_id": "x" * 513}, "no id": {"concept_id": ""}, "NUL": {"concept_id": "a\0"}, "101 tags": {"metadata": {"tags": ["t"] * 101}},
        "101 attributes": {"metadata": {"attributes": {str(i): "" for i in range(101)}}}, "a content that is no string": {"content": 5},
    }
    cases = {name: {"LearnConcept": dict(good, **change)} for name, change in learn.items()}
    cases |= {
        "nothing required": {"LearnConcept": {}}, "an unknown variant": {"DropEverything": {}}, "an unknown unit": "DropEverything",
        "an unknown end": {"LearnAssociation": ["smoke", "nobody", 0, 1]}, "depth 21": {"FindPath": ["smoke", "safe", 21]}, "depth 21, causal": {"FindCausalChain": ["smoke", None, 21]},
        "k 1,001": {"VectorSearch": [[1.0] * 768, 1001, 64]}, "1,001 contents": {"LearnBatch": [["c"] * 1001, None]}, "an unknown domain": {"FindContradictions": ["music"]},
        "1,001 requests": {"Batch": [["GetStats"] * 1001]},
    }
    for name, request in cases.items():
        if not is_error(c.ask(request)):
            failures.append(f"{name} is accepted")
    for what, text in {"id": b"\xa2a\xff", "content": b"\xa2a\xff"}.items():
        fields = [b"\xa3bad", b"\xa4text", b"\x90", b"\x01", b"\x01"]
        fields[0 if what == "id" else 1] = text
        if not is_error(msgpack.unpackb(c.raw(b"\x81\xacLearnConcept\x95" + b"".join(fields)))):
            failures.append(f"{what} that is no UTF-8 is accepted")
    reply = c.ask({"Batch": [["GetStats", {"LearnConcept": dict(good, strength=math.nan)}, {"QueryConcept": ["smoke"]}]]})
    check("a bad request among good ones", [list(r)[0] for r in reply["BatchOk"]["replies"]], ["StatsOk", "Error", "QueryConceptOk"])
    check("written", c.ask("GetStats")["StatsOk"]["written"], before)


def broken(c, address):
    """What is no message gets an Error, and the connection lives; a frame over the limit gets one, and it is closed."""
    for name, payload in {
        "an empty frame": b"", "no MessagePack": b"\xc1", "two variants": b"\x82\xa8GetStats\x80\xa5Flush\x80", "no variant": b"\x80", "a number": b"\x05",
        "bytes behind": b"\xa8GetStats\x00", "beyond the frame": b"\x81\xacQueryConcept\x91\xdb\xff\xff\xff\xff", "nested over 32": b"\x81\xa8GetStats" + b"\x91" * 32 + b"\xc0",
    }.items():
        if not is_error(msgpack.unpackb(c.raw(payload))):
            failures.append(f"{name} is accepted")
    check("afterwards", list(c.ask("HealthCheck")), ["HealthCheckOk"])
    large = Connection(address)
    large.send(b"\xff\xff\xff\xff" + b"x" * 100)
    if not is_error(msgpack.unpackb(large.frame())):
        failures.append("a frame of 4 GiB is accepted")
    try:
        large.receive(1)
        failures.append("the connection lives after a frame of 4 GiB")
    except EOFError:
        pass
    c.send(b"".join(struct.pack(">I", len(p)) + p for p in [b"\xa8GetStats", b"\xc1", b"\xa5Flush"]))
    check("three at once, in order", [list(r) if isinstance(r, dict) else r for r in (msgpack.unpackb(c.frame()) for _ in range(3))], [["StatsOk"], ["Error"], "FlushOk"])


def main(address):
    c = Connection(address)
    golden(c)
    every_request(c)
    refused(c)
    broken(c, address)
    for line in failures:
        print(line[:400])
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""What the PyPI package `spiffe` makes of a Workload API, as lines of JSON for the test that runs this."""

import json
import sys
import threading

from spiffe import JwtSource, SpiffeId, WorkloadApiClient, X509Source


def say(**line):
    print(json.dumps(line), flush=True)


def described(context):
    return {
        "svids": [
            {"id": str(svid.spiffe_id), "serial": format(svid.leaf.serial_number, "x"), "chain": len(svid.cert_chain)}
            for svid in context.x509_svids
        ],
        "bundles": {
            f"spiffe://{bundle.trust_domain.name}": len(bundle.x509_authorities)
            for bundle in context.x509_bundle_set.bundles
        },
    }


def failure(work):
    try:
        work()
        return None
    except Exception as error:  # The package has a class for each method.
        return f"{type(error).__name__}: {error}"


def main(socket, audience, subject):
    with WorkloadApiClient(socket) as client:
        say(event="fetched", **described(client.fetch_x509_context()))
        bundles = client.fetch_x509_bundles()
        say(event="bundles", x509=len(bundles.bundles), jwt=len(client.fetch_jwt_bundles().bundles))
        tokens = client.fetch_jwt_svids(audience={audience})
        token = client.fetch_jwt_svid(audience={audience}, subject=SpiffeId(subject))
        valid = client.validate_jwt_svid(token.token, audience)
        say(
            event="jwt",
            ids=[str(svid.spiffe_id) for svid in tokens],
            valid=str(valid.spiffe_id),
            refused=failure(lambda: client.validate_jwt_svid(token.token, "another")),
        )
    with JwtSource(socket_path=socket, timeout_in_seconds=20) as source:
        say(event="jwt source", id=str(source.fetch_svid(audience={audience}).spiffe_id), bundles=len(source.bundles))
    with X509Source(socket_path=socket, timeout_in_seconds=20) as source:
        news = threading.Semaphore(0)
        source.subscribe_for_updates(news.release)
        say(event="source", serial=format(source.svid.leaf.serial_number, "x"))
        for _ in sys.stdin:  # A line for each rotation.
            if not news.acquire(timeout=20):
                raise SystemExit("no update")
            say(event="source", serial=format(source.svid.leaf.serial_number, "x"))


main(*sys.argv[1:])

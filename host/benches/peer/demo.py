"""The Python demo that Rollcall replaces, as it was described: paho consumes from RabbitMQ and inserts one
document a message into MongoDB; Flask answers with an aggregate over an index on the timestamp.

Usage: demo.py subscribe PORT               makes the consumer's queue
       demo.py consume PORT MONGODB COUNT   consumes COUNT messages; prints the seconds and CPU seconds it took
       demo.py fill MONGODB START SPAN COUNT
                                            inserts COUNT documents in bulk, spread evenly over the SPAN seconds
                                            from START, so that there is something to count
       demo.py ask MONGODB TIMES            asks /status_count for everything; prints each answer's milliseconds
"""

import json
import random
import sys
import time

import paho.mqtt.client as mqtt
import pymongo

TOPIC = "rollcall/+/+/status"
BULK = 10_000


def connect(port, on_message):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="demo", clean_session=False)
    client.username_pw_set("rollcall", "rollcall")
    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe(TOPIC, qos=1)
    client.connect("127.0.0.1", port)
    return client


def subscribe(port):
    client = connect(port, lambda *_: None)
    client.on_subscribe = lambda client, *_: client.disconnect()
    client.loop_forever()


def collection(mongodb):
    messages = pymongo.MongoClient(mongodb).get_default_database().messages
    messages.create_index("timestamp")
    return messages


def consume(port, mongodb, count):
    messages = collection(mongodb)
    inserted = 0

    def on_message(client, _, message):
        nonlocal inserted
        status = json.loads(message.payload)["status"]
        messages.insert_one({"status": status, "timestamp": int(time.time())})
        inserted += 1
        if inserted == count:
            client.disconnect()

    start = time.monotonic()
    connect(port, on_message).loop_forever()
    print(json.dumps([time.monotonic() - start, time.process_time()]))


def fill(mongodb, start, span, count):
    messages = collection(mongodb)
    for first in range(0, count, BULK):
        numbers = range(first, min(first + BULK, count))
        messages.insert_many(
            [{"status": random.randrange(7), "timestamp": start + span * number // count} for number in numbers],
            ordered=False,
        )


def ask(mongodb, times):
    import flask

    app = flask.Flask("demo")
    messages = collection(mongodb)

    @app.get("/status_count")
    def status_count():
        start, end = int(flask.request.args["start"]), int(flask.request.args["end"])
        groups = messages.aggregate([
            {"$match": {"timestamp": {"$gte": start, "$lt": end}}},
            {"$group": {"_id": "$status", "count": {"$sum": 1}}},
        ])
        return {str(group["_id"]): group["count"] for group in groups}

    client = app.test_client()
    took = []
    for _ in range(times):
        start = time.monotonic()
        assert client.get("/status_count?start=0&end=9999999999").json
        took.append((time.monotonic() - start) * 1000)
    print(json.dumps(took))


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    arguments = [int(argument) if argument.isdigit() else argument for argument in arguments]
    {"subscribe": subscribe, "consume": consume, "fill": fill, "ask": ask}[command](*arguments)

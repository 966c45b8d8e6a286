"""Publishes to Rollcall with paho-mqtt in bursts of QoS 0: connect, all at once, disconnect; prints how many of each
status.

Usage: paho_bursts.py PORT TOPIC
"""

import json
import sys
import threading

import paho.mqtt.client as mqtt

BURSTS = 100
# More than one read of the gateway.
MESSAGES = 60

port, topic = int(sys.argv[1]), sys.argv[2]
counts = [0] * 7
seq = 0

for _ in range(BURSTS):
    for version in (mqtt.MQTTv311, mqtt.MQTTv5):
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=version)
        connected = threading.Event()
        client.on_connect = lambda *_: connected.set()
        client.connect("127.0.0.1", port)
        client.loop_start()
        # Who closes a socket with an unread CONNACK in it makes the system throw away what it had sent.
        assert connected.wait(30)
        sent = []
        for _ in range(MESSAGES):
            status = seq % 7
            payload = {"status": status, "seq": seq, "boot": "9f3c5a0be1d24c77", "age_ms": 0}
            sent.append((status, client.publish(topic, json.dumps(payload), qos=0)))
            seq += 1
        client.disconnect()
        client.loop_stop()
        for status, info in sent:
            counts[status] += info.is_published()

print(json.dumps(counts))

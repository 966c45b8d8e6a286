"""Publishes to Rollcall with paho-mqtt, every version and QoS; prints how many of each status.

Usage: paho_publish.py PORT TOPIC
"""

import json
import sys

import paho.mqtt.client as mqtt

port, topic = int(sys.argv[1]), sys.argv[2]
counts = [0] * 7
seq = 0

for version in (mqtt.MQTTv311, mqtt.MQTTv5):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=version)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for qos in (0, 1):
        for status in range(7):
            bare = {"status": status}
            full = {"status": status, "seq": seq, "boot": "9f3c5a0be1d24c77", "age_ms": 250}
            seq += 1
            # A reading with an identity is counted once, however often it comes.
            for payload, new in ((bare, 1), (full, 1), (full, 0)):
                client.publish(topic, json.dumps(payload), qos=qos).wait_for_publish(10)
                counts[status] += new
    client.disconnect()
    client.loop_stop()

print(json.dumps(counts))

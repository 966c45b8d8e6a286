// Publishes to Rollcall with mqtt.js in bursts, every version and QoS: connect, all at once, end. Prints how many of
// each status were sent with QoS 0 or acknowledged with QoS 1.
//
// Usage: node mqttjs_bursts.js PORT TOPIC

const mqtt = require('mqtt');

const BURSTS = 5;
// No more than the gateway announces as Receive Maximum, which mqtt.js leaves to its user.
const MESSAGES = 200;

const [port, topic] = process.argv.slice(2);
const counts = Array(7).fill(0);
let seq = 0;

const burst = (protocolVersion, qos) => new Promise((resolve, reject) => {
  const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, { protocolVersion, reconnectPeriod: 0 });
  client.on('error', reject);
  client.on('connect', () => {
    for (let n = 0; n < MESSAGES; n++, seq++) {
      const status = seq % 7;
      const payload = JSON.stringify({ status, seq, boot: '9f3c5a0be1d24c77', age_ms: 0 });
      client.publish(topic, payload, { qos }, (error) => error ? reject(error) : counts[status]++);
    }
    // Waits for acknowledgements, and for nothing with QoS 0.
    client.end(false, {}, resolve);
  });
});

(async () => {
  for (const protocolVersion of [4, 5]) {
    for (const qos of [0, 1]) {
      for (let n = 0; n < BURSTS; n++) {
        await burst(protocolVersion, qos);
      }
    }
  }
  console.log(JSON.stringify(counts));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});

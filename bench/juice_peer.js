// libjuice as libdatachannel has it: one side of a pair, for bench/ice.sh. Descriptions are lines of JSON on
// standard output and input, with all candidates. The first side says how long after the answer its ICE was
// connected (no data has come back then: its data waits for DTLS), and after how long the first message.
// usage: juice_peer.js NODE_MODULES offer|answer SERVER
'use strict';
const [modules, role, server] = process.argv.slice(2);
const { PeerConnection } = require(`${modules}/node-datachannel`);
const pc = new PeerConnection(role, { iceServers: [`stun:${server}:3478`, `turn:user:pass@${server}:3478`] });
let began;
const ms = () => Number(process.hrtime.bigint() - began) / 1e6;
const use = channel => {
    channel.onOpen(() => role === 'offer' && channel.sendMessage('x'));
    channel.onMessage(m => {
        if (role === 'answer') {
            channel.sendMessage(m);
            return;
        }
        console.error(`over DTLS after ${ms().toFixed(1)} ms`);
        process.exit(0);
    });
    return channel;
};
let mine;
pc.onIceStateChange(s => {
    if (s === 'connected' && began && role === 'offer')
        console.error(`first after ${ms().toFixed(1)} ms`);
});
pc.onGatheringStateChange(s => s === 'complete' && console.log(JSON.stringify(pc.localDescription())));
pc.onDataChannel(c => (mine = use(c)));
require('readline').createInterface({ input: process.stdin }).once('line', line => {
    const d = JSON.parse(line);
    began = process.hrtime.bigint();
    pc.setRemoteDescription(d.sdp, d.type);
});
if (role === 'offer')
    mine = use(pc.createDataChannel('x'));
setTimeout(() => process.exit(1), 20000);

import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";

// The package lies in the peers' folder, not beside this file.
const { Queue, Worker } = createRequire(process.env.BULLMQ + "/")("bullmq");
const connection = { url: process.env.REDIS_URL, maxRetriesPerRequest: null };
const tuned = process.env.TUNED ? 1000 * Number(process.env.TUNED) : 0;

function write(what, job) {
  const t = Number(process.hrtime.bigint()) / 1e9;
  const line = JSON.stringify({ t, what, job, attempt: 0, pid: process.pid });
  appendFileSync(process.env.CHAOS_HISTORY, line + "\n");
}

if (process.argv[2] === "worker") {
  const limits = tuned ? { lockDuration: tuned, stalledInterval: tuned, maxStalledCount: 3 } : {};
  const worker = new Worker("chaos", async ({ data }) => {
    write("start", data.job);
    await new Promise((done) => setTimeout(done, 1000 * data.seconds));
    write("end", data.job);
  }, { connection, concurrency: 100, ...limits });
  worker.on("error", () => {});
  await worker.waitUntilReady();
  console.log("ready");
} else {
  const queue = new Queue("chaos", { connection });
  for (const [job, seconds] of JSON.parse(process.argv[2])) {
    await queue.add("waits", { job, seconds }, { attempts: 4 });
  }
  await queue.close();
}

// What every client's script does around its calls: each line of standard input is a JSON object with the function's name
// as `do` and its arguments; for each, a line of JSON says what came of it.
import { createInterface } from "node:readline";

export async function answer(functions) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { do: name, ...call } = JSON.parse(line);
    console.log(JSON.stringify(await outcome(functions[name], call)));
  }
}

async function outcome(function_, call) {
  try {
    return await function_(call);
  } catch (error) {
    // Where a package throws axios' errors, the sentence is in the answer that hangs on them.
    const said = error.response?.data?.error ?? null;
    return { error: String(error.message ?? error), kind: error.name ?? typeof error, said };
  }
}

export const sides = (size) => size.split("x").map(Number);

// Inputs with a number in them.

/** @param {{minimum: number, maximum: number, multiple_of?: number}} limits  @param {Iterable<HTMLInputElement>} inputs */
export function boundBy(limits, inputs) {
  for (const input of inputs) {
    input.min = limits.minimum;
    input.max = limits.maximum;
    if (limits.multiple_of) input.step = limits.multiple_of;
  }
}

/** "" if it is empty. What is no number is sent as NaN, for the service to refuse: a browser shows "2,5" and gives an empty text. */
export function numberOf(input) {
  if (input.validity.badInput) return NaN;
  return input.value === "" ? "" : Number(input.value);
}

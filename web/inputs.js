// Inputs with a number in them, and lists to choose from.

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

/** What can be chosen; the choice stays. @param {HTMLSelectElement} select  @param {[string, string][]} pairs  value and text */
export function choices(select, pairs) {
  const chosen = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
  if (chosen !== "") choose(select, chosen);
}

/** What is not listed, or not yet, is chosen all the same: it is for the service to refuse. */
export function choose(select, value) {
  if (!Array.from(select.options).some((option) => option.value === value)) select.append(new Option(value, value));
  select.value = value;
}

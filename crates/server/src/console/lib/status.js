// The last status of the process, shared by the frame and the page. Ages are told by the deployment's clock, its `as_of`.

const state = { status: null, asOf: 0, listeners: [] };

/** The last status; null before the first. */
export const see = () => state.status;

/** The newest moment that this page has seen, milliseconds. */
export const now = () => Math.max(state.asOf, state.status?.as_of ?? 0);

/** Notes a moment of a record. */
export function seen(asOf) {
  state.asOf = Math.max(state.asOf, asOf ?? 0);
}

export function takeStatus(status) {
  state.status = status;
  for (const listener of state.listeners) listener(status);
}

/** Calls `listener` with the last status and with each new one. */
export function whenStatus(listener) {
  state.listeners.push(listener);
  if (state.status) listener(state.status);
}

/** The first status. */
export function firstStatus() {
  return new Promise((resolve) => {
    const listener = (status) => {
      state.listeners = state.listeners.filter((one) => one !== listener);
      resolve(status);
    };
    whenStatus(listener);
  });
}

/** A recommended action in words: those of the record, or of the task's rule; null without an action. */
export const actionWords = (record) => record.recommended_action_label ?? taskNamed(record.task)?.actions.find((one) => one.code === record.recommended_action)?.label ?? record.recommended_action;

export const taskNamed = (name) => state.status?.tasks.find((task) => task.name === name);

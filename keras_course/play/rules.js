// --- update rules -----------------------------------------------------------------------------------------------
// The formula of keras_course/update_rules.py; its coefficients come from there.

const RULE_TEXTS = {
  sgd: "Plain descent: each step is the learning rate times the gradient.",
  momentum: "Keeps nine tenths of its speed: it builds up along a valley, and may roll past the bottom.",
  adagrad: "Divides by the size of all gradients so far: its steps get shorter and shorter.",
  rmsprop: "Divides by the size of the latest gradients: steep or flat, its steps are of one length.",
  adam: "Momentum and RMSprop in one, with a careful start.",
};

// Returns one parameter after step t = 1, 2, ..., and updates its memory, {velocity, square}.
function update(parameter, gradient, memory, rule, learningRate, t) {
  memory.velocity = rule.velocity_decay * memory.velocity + rule.gradient_share * gradient;
  memory.square = rule.square_decay * memory.square + rule.square_share * gradient * gradient;
  const correction = rule.corrects_bias
    ? Math.sqrt(1 - rule.square_decay ** t) / (1 - rule.velocity_decay ** t)
    : 1;
  const size = Math.sqrt(memory.square + rule.epsilon_inside) + rule.epsilon_outside;
  return parameter - (learningRate * correction * memory.velocity) / size;
}

function dividesByGradient(rule) {
  return rule.square_share > 0;
}

// Returns the learning rate above which a rule that does not divide by the gradient diverges at this curvature.
function rateLimit(rule, curvature) {
  return (2 * (1 + rule.velocity_decay)) / (rule.gradient_share * curvature);
}

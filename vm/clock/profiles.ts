/** The profile in costs.yaml that claims are judged by. */
export const defaultCostProfile = 'neoverse-n1';
/** The profile of the machine that the published figures are from: absolute ones can be judged by it, too. */
export const publishedCosts = 'emag';

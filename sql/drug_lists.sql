-- The drugs of each stay as one list.
--
-- Grain:  one row per stay with a drug
-- Key:    hadm_id
-- Inputs: prescriptions
-- Known:  each drug from its first_order on
-- Source: MIMIC-IV v3.1, hosp.prescriptions
--
-- In the order of first prescription, then by name: many orders are written in one minute, as a set. known_from is
-- when the first of them was.

SELECT
    hadm_id,
    min(first_order) AS known_from,
    list_sort(list({'first_order': first_order, 'drug': drug, 'due': due})) AS ordered
FROM prescriptions
GROUP BY hadm_id

-- The drugs ordered during each stay, with the time of the first order.
--
-- Grain:  one row per stay and drug
-- Key:    hadm_id, drug
-- Inputs: drug_names, prediction_times, raw.prescriptions
-- Known:  from first_order on
-- Source: MIMIC-IV v3.1, hosp.prescriptions
--
-- An order names the drug (MAIN), the fluid it is dissolved in (BASE) and what else goes in (ADDITIVE);
-- only MAIN is what was prescribed. Orders are not administrations. Times outside the stay are kept: some
-- orders are written hours before the admission is; one without a time counts as written at admission. A drug is
-- due if any of its orders starts within the truth window.

WITH orders AS (
    SELECT
        hadm_id,
        drug_names.drug,
        coalesce(prescriptions.starttime, times.admittime) AS written,
        times.truth_from,
        times.truth_until
    FROM raw.prescriptions AS prescriptions
    INNER JOIN prediction_times AS times USING (hadm_id)
    INNER JOIN drug_names ON drug_names.spelling = prescriptions.drug
    WHERE prescriptions.drug_type = 'MAIN'
)

SELECT
    hadm_id,
    drug,
    min(written) AS first_order,
    bool_or(written > truth_from AND written <= truth_until) AS due
FROM orders
GROUP BY hadm_id, drug

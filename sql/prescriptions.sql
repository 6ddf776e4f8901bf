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
-- orders are written hours before the admission is. A drug is due if any of its orders starts within the truth
-- window.

SELECT
    hadm_id,
    drug_names.drug,
    min(orders.starttime) AS first_order,
    bool_or(
        coalesce(orders.starttime, TIMESTAMP 'infinity') > times.truth_from
        AND coalesce(orders.starttime, TIMESTAMP 'infinity') <= times.truth_until
    ) AS due
FROM raw.prescriptions AS orders
INNER JOIN prediction_times AS times USING (hadm_id)
INNER JOIN drug_names ON drug_names.spelling = orders.drug
WHERE orders.drug_type = 'MAIN'
GROUP BY hadm_id, drug_names.drug

-- The drugs ordered during each stay, with the time of the first order.
--
-- Grain:  one row per stay and canonical drug
-- Key:    hadm_id, drug
-- Inputs: admissions, drug_names, raw.prescriptions
-- Known:  from first_order on
-- Source: MIMIC-IV v3.1, hosp.prescriptions
--
-- An order names the drug (MAIN), the fluid it is dissolved in (BASE) and what else goes in (ADDITIVE);
-- only MAIN is what was prescribed. Orders are not administrations. Times outside the stay are kept: some
-- orders are written hours before the admission is. An order without a time sorts last.

SELECT
    hadm_id,
    drug_names.drug,
    min(orders.starttime) AS first_order,
    count(*) AS orders
FROM raw.prescriptions AS orders
INNER JOIN admissions USING (hadm_id)
INNER JOIN drug_names ON drug_names.spelling = orders.drug
WHERE orders.drug_type = 'MAIN'
    AND drug_names.drug IS NOT NULL
GROUP BY hadm_id, drug_names.drug
